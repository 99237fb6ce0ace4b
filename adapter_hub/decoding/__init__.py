"""From features to text: the decoder, the search, the rules of its tokens, and the times of its words."""
