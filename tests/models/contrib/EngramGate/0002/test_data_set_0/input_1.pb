
Bof_keyJ¾6c2G¹¿W¿Ø¹&=