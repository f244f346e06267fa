//! A dump's rows as SQL.
