"""Who holds which experts, and how codes and partial sums travel between them."""
