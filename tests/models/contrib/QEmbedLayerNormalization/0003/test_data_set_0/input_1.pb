BwordJ,2оj'⌡
рMую╠nE7Э┬@Фп-QК]fB,┼Eрс║tD╩©Ё%t9