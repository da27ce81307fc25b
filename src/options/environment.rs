//! Environment variables.

use std::collections::HashMap;

/// The process's environment, or a test's.
pub type Environment = HashMap<String, String>;
