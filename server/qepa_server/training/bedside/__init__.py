"""Training of the models at the bedside with Keras (extra ``train``): arrays in, an int8 TFLite file out."""
