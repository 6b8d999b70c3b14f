
BgammaJG?B9×·Î: