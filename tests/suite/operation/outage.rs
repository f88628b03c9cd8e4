//! PostgreSQL goes away and comes back.
