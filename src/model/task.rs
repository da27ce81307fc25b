//! A task as the API tells of it.

use serde::Deserialize;

/// One Actor task: what runs are listed under. Fields the API leaves out are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The task's id: what a feed is known by, whatever name it was configured under.
    pub id: String,
    /// The owner's user id.
    #[serde(default)]
    pub user_id: Option<String>,
    /// The Actor the task runs.
    #[serde(default)]
    pub act_id: Option<String>,
    /// The Actor's name; only the list of tasks tells it.
    #[serde(default)]
    pub act_name: Option<String>,
    /// The task's name, unique for its owner; it can be changed.
    #[serde(default)]
    pub name: Option<String>,
    /// The owner's name.
    #[serde(default)]
    pub username: Option<String>,
}

impl Task {
    /// What people call it: `username~name` when both are known, else the id.
    pub fn label(&self) -> String {
        match (&self.username, &self.name) {
            (Some(username), Some(name)) => format!("{username}~{name}"),
            _ => self.id.clone(),
        }
    }
}
