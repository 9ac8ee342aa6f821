"""The full-size model's companions: the networks around the FramePack-F1 transformer.

Text encoders, image encoder, autoencoder and its fast replacement are other people's networks with public
weights. They are loaded from one local folder through transformers and diffusers; nothing is ever downloaded.
This package knows neither the transformer nor sessions; the built-in model never imports it.
"""
