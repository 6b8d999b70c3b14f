BbetaJ‡¥ušÌÓ[ÿ¿Š¾Z'IQ)†(µI
Í