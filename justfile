# What one does all day.

# Format, lint and test what changed.
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# All tests.
test:
    cargo test --workspace

# All that CI does.
ci:
    .ci/run

# The newcomer's tour.
demo:
    cargo run --release -- demo
