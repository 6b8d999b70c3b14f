
BscaleJ”­€<XºGµ