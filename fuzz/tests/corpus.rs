//! Runs every corpus seed as a regular test, without a fuzzer.

use std::fs;
use std::path::Path;

/// Runs every seed through its target.
#[test]
fn every_corpus_seed_passes_its_fuzz_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, check) in fuzz::TARGETS {
        let seeds = fs::read_dir(corpus.join(name)).unwrap().map(|seed| seed.unwrap().path());
        let seeds: Vec<_> = seeds.collect();
        assert!(!seeds.is_empty(), "{name}");
        for seed in seeds {
            println!("{}", seed.display());
            check(&fs::read(seed).unwrap());
        }
    }
}
