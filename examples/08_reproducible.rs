//! The same bits everywhere: a few training steps on every instruction set of this machine, with one, two and three threads.
//! All runs end with one digest; another seed ends with another.

use fixnet::kernel::{available_isas, set_isa};
use fixnet::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The digest of all state (weights, momentum, statistics, clipping factors) after three steps.
fn digest(data: &Split, seed: u64) -> Result<String> {
    let (task, data) = Classification::of_split(data.clone());
    let augmentation = Augment { rotation: 10.0, shift: 0.1, mixup: 0.2, ..Augment::default() };
    let mut settings = Settings { augmentation, ..Settings::default() };
    (settings.run.batch_size, settings.run.seed) = (16, seed);
    let mut session = Session::new(settings.check()?, Arc::new(task), &data)?;
    for _ in 0..3 {
        session.step()?;
    }
    Ok(session.digest())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let data = digits()?;
    let mut digests = BTreeSet::new();
    for &isa in available_isas() {
        set_isa(isa)?;
        for threads in 1..=3 {
            // The library's work runs on the rayon pool that it is called from.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let found = pool.install(|| digest(&data, 1))?;
            println!("{:<12} {threads} threads  {}", isa.to_string(), &found[..16]);
            digests.insert(found);
        }
    }
    assert_eq!(digests.len(), 1, "one digest everywhere");
    let other = digest(&data, 2)?;
    println!("seed 2                  {}", &other[..16]);
    assert!(!digests.contains(&other));
    Ok(())
}
