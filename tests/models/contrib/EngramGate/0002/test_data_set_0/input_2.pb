
Bof_convJî=X<u¸8Â<%<î¼=