//! Whatever a configuration holds: it is taken or refused with problems that say something, and never panics.

#![no_main]

use apify_mirror::config::{self, Overrides};
use apify_mirror::options::Environment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // The first line may be a variable of the environment.
    let (variable, toml) = text.split_once('\n').unwrap_or(("", text));
    let environment: Environment = variable
        .split_once('=')
        .map(|(name, value)| (format!("APIFY_MIRROR_{name}"), value.to_owned()))
        .into_iter()
        .collect();
    match config::parse(Some(toml), &environment, Overrides::default(), || {
        "fuzz".to_owned()
    }) {
        Ok(settings) => assert!(settings.sync.overlap < settings.sync.page_size),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
