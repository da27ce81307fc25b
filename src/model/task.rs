//! A task, as the API returns it.

use serde::Deserialize;

/// One Actor task, which has a list of runs. Fields that the API leaves out are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The task's id, which identifies its feed whatever name the configuration uses.
    pub id: String,
    /// The owner's user id.
    #[serde(default)]
    pub user_id: Option<String>,
    /// The id of the Actor that the task runs.
    #[serde(default)]
    pub act_id: Option<String>,
    /// The Actor's name; only the list of tasks has it.
    #[serde(default)]
    pub act_name: Option<String>,
    /// The task's name, unique for its owner. It can be changed.
    #[serde(default)]
    pub name: Option<String>,
    /// The owner's name.
    #[serde(default)]
    pub username: Option<String>,
}

impl Task {
    /// A name for people: `username~name` if both are known, otherwise the id.
    pub fn label(&self) -> String {
        match (&self.username, &self.name) {
            (Some(username), Some(name)) => format!("{username}~{name}"),
            _ => self.id.clone(),
        }
    }
}
