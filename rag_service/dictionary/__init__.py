"""Chinese words and what they are in English, and the other way round."""
