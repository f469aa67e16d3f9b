"""Other architectures whose training is convex: threshold units, convolutions, attention."""
