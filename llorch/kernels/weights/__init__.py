"""Weight formats, each with everything the engine asks of it in one object: `formats.FORMATS` lists them."""
