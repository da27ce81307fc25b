//! Environment variables.

use std::collections::HashMap;

/// The process's environment, or one made up for a test.
pub type Environment = HashMap<String, String>;
