-- Since when no attempt could be carried on, for trouble beside the encoder, and nothing was made; 0 without.
ALTER TABLE jobs ADD COLUMN troubled_ms INTEGER NOT NULL DEFAULT 0;
