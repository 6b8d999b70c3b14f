&JÈ`ÏB²–çBþs¾By\¿BB«CâG‡BotÝBxImBÓBC[~B‡6Cõ^»B=€÷BoéB}cB‚“ŸBh}¨BÄB^J¤B†ø°AÄ±úB!B¡û¥B#P–B‹3èBx ŸBt—ÁW¼$BÈ€CSµÌB|Å¬Bm-ÁB©©ChÛ·BrÎÑBÍ
zBSVB0îA§ÍƒBÈàCÎ{ÆBX!C g­BfeCRÚBµçC€„âBaóCEwüBl|ïBbÑƒByº¿Bo«C/èÕB¢·»BÏy7CïÙBÂ=IBâx“B±C‡ËBíXCQC®æ¿B^ŠC5M"C 
aBn|³BûaC?C°BeCøÉC§-
CuÆÂB€DìBá‡9CÆÓ¹B"ªÿBšÞ½B©É†BQ¦ñB°íâB=yCíØCëMBH ìBu‚íBÎNC ÉB4	ñB)ÌBŽB¥BuÙCº3ÑB¬Ì#C!ãÃB'­õBA)±BºŠC©tACébCeXC¯¤B¤³»B.ÎÈBCS±yB3›BZƒ¤BqÖC¬ÿC~Ž,CøÇ«B