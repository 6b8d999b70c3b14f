By0J(¡>liµ=ôww?¨±
?Bàx?Hp¢=ZW,?tg‚=ÀÙ’>€f>