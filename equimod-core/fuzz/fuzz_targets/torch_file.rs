//! Zip archives and pickles as written by `torch.save`: the reader returns a result for any content and never panics.
#![no_main]
#![allow(dead_code, reason = "the reader's modules are included whole")]

#[path = "../../src/torch_file/archive.rs"]
mod archive;
#[path = "../../src/torch_file/facts.rs"]
mod facts;
#[path = "../../src/torch_file/fault.rs"]
mod fault;
#[path = "../../src/torch_file/object.rs"]
mod object;
#[path = "../../src/torch_file/pickle.rs"]
mod pickle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    // Consecutive pickles, as in the older layout.
    while let Ok(read) = pickle::read(rest) {
        let _ = facts::facts(&read);
        rest = &rest[read.length..];
    }
    let Ok(archive) = archive::Archive::open(bytes) else { return };
    let Some(name) = archive.find(|name| name.ends_with("data.pkl")) else { return };
    if let Ok(text) = archive.read(name) {
        let _ = pickle::read(&text).map(|read| facts::facts(&read));
    }
});
