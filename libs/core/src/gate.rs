//! Gates: strict trees of rules, read once from the wire.
