"""Product pictures made with Pillow, NumPy, SciPy and scikit-image: no key, no network, no weights."""
