//! Which names have streams of random numbers, so that no two share one, and how often each drew in this step.
//!
//! A stream has room for 32 bits of a name, its hash. Where a second name of the same hash comes, it has the number 1, and
//! so on: a function of the order in which layers are made, which the model fixes. The first has the number 0, and with it
//! the stream of its hash alone.

use std::collections::BTreeMap;

/// A 32-bit FNV-1a hash of a name.
pub(super) fn name_hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// The names of each domain and hash in the order of their coming, with their draws in this step.
#[derive(Debug, Default)]
pub(super) struct Streams(BTreeMap<(u32, u32), Vec<(String, u32)>>);

impl Streams {
    /// The number of a name among those that share its hash. A name that was not there comes last.
    pub(super) fn number(&mut self, domain: u32, name: &str) -> u32 {
        let owners = self.0.entry((domain, name_hash(name))).or_default();
        let found = owners.iter().position(|(owner, _)| owner == name);
        found.unwrap_or_else(|| {
            owners.push((name.to_string(), 0));
            owners.len() - 1
        }) as u32
    }

    /// How often a name drew in this step.
    pub(super) fn draws(&self, domain: u32, name: &str) -> u32 {
        let owners = self.0.get(&(domain, name_hash(name)));
        owners.and_then(|o| o.iter().find(|(owner, _)| owner == name)).map_or(0, |(_, draws)| *draws)
    }

    /// Counts a draw of a name that has a number, and gives how many there were before.
    pub(super) fn draw(&mut self, domain: u32, name: &str) -> u32 {
        let owners = self.0.get_mut(&(domain, name_hash(name)));
        owners.and_then(|o| o.iter_mut().find(|(owner, _)| owner == name)).map_or(0, |(_, draws)| {
            *draws = draws.wrapping_add(1);
            draws.wrapping_sub(1)
        })
    }

    /// Begins to count draws anew.
    pub(super) fn restart(&mut self) {
        self.0.values_mut().flatten().for_each(|(_, draws)| *draws = 0);
    }
}
