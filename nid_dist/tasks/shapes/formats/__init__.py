"""File formats of meshes, each read in full or refused: corners, and faces cut into triangles."""
