"""The embedded sample of PersonaGPT: dialogues of two personas and examples of action codes, all of our own making."""
