//! The bounded machine that reads pickles.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tweedie::models::checkpoint::pickle::Pickle;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((pickle, length)) = Pickle::read(bytes) {
        assert!(length <= bytes.len());
        let _ = (pickle.entries(pickle.root()), pickle.sequence(pickle.root()), pickle.call(pickle.root()));
    }
});
