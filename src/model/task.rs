//! A task, as the API returns it.

use serde_json::Value;

use super::id::is_usable_id;
use super::time::Timestamp;

/// The longest name of a task, an Actor or a user, in characters. Apify's have at most 63.
const MAX_NAME: usize = 200;

/// One Actor task, which has a list of runs. Fields that the API leaves out, or that are not as documented, are `None`;
/// so are names of more than 200 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// The task's id, which identifies its feed whatever name the configuration uses.
    pub id: String,
    /// The owner's user id.
    pub user_id: Option<String>,
    /// The id of the Actor that the task runs.
    pub act_id: Option<String>,
    /// The Actor's name; only the list of tasks has it.
    pub act_name: Option<String>,
    /// The task's name, unique for its owner. It can be changed.
    pub name: Option<String>,
    /// The owner's name.
    pub username: Option<String>,
    /// When it was created, in the API's form.
    pub created_at: Option<String>,
    /// When it was last changed, in the API's form.
    pub modified_at: Option<String>,
}

impl Task {
    /// Reads a task, or an item of the list of tasks; `None` if it has no usable id.
    pub fn from_json(json: &Value) -> Option<Self> {
        let text = |key: &str| {
            let text = json.get(key)?.as_str()?;
            let fits = text.chars().nth(MAX_NAME).is_none();
            fits.then(|| text.to_owned())
        };
        let time = |key: &str| Timestamp::text_from_api(json.get(key)?);
        Some(Self {
            id: text("id").filter(|id| is_usable_id(id))?,
            user_id: text("userId"),
            act_id: text("actId"),
            act_name: text("actName"),
            name: text("name"),
            username: text("username"),
            created_at: time("createdAt"),
            modified_at: time("modifiedAt"),
        })
    }

    /// A name for people: `username~name` if both are known, otherwise the id.
    pub fn label(&self) -> String {
        match (&self.username, &self.name) {
            (Some(username), Some(name)) => format!("{username}~{name}"),
            _ => self.id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_id_is_required() {
        for unusable in [
            json!(null),
            json!([1]),
            json!({}),
            json!({"id": ""}),
            json!({"id": 5}),
            json!({"id": ".."}),
            json!({"id": "a/b"}),
            json!({"id": "x".repeat(101)}),
        ] {
            assert_eq!(Task::from_json(&unusable), None, "{unusable}");
        }
        let odd = json!({"id": "t", "name": 5, "username": null, "createdAt": 1_575_099_264_202_i64, "modifiedAt": "soon"});
        let expected = Task {
            id: "t".into(),
            created_at: Some("2019-11-30T07:34:24.202Z".into()),
            ..Task::default()
        };
        assert_eq!(Task::from_json(&odd), Some(expected));
        let name = |length| {
            let named = json!({"id": "t", "name": "ä".repeat(length)});
            Task::from_json(&named).unwrap().name
        };
        assert_eq!((name(200).is_some(), name(201)), (true, None));
    }
}
