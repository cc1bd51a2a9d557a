"""What is done against vanishing and exploding gradients: clipping, initialisation, Ω, flossing."""
