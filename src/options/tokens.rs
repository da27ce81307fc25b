//! API tokens that were pasted where something else belongs.

/// How Apify's tokens begin.
const BEGINNING: &str = "apify_api_";

/// The mistake of a value that looks like an API token. The value must not be shown.
pub const LOOKS_LIKE_A_TOKEN: &str = "looks like an API token, which does not belong here; give it in the environment \
     variable APIFY_TOKEN or in the file that `api.token_file` names";

/// Whether an API token seems to be part of `text`.
pub fn looks_like_token(text: &str) -> bool {
    without_tokens(text) != text
}

/// `text`, with everything that looks like an API token made unrecognisable.
pub fn without_tokens(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    // Names of keys may have been put into capitals or small letters.
    while let Some(at) = rest.to_ascii_lowercase().find(BEGINNING) {
        let (before, found) = rest.split_at(at);
        let (beginning, token) = found.split_at(BEGINNING.len());
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        rest = token.trim_start_matches(part);
        clean.push_str(before);
        clean.push_str(beginning);
        if rest.len() < token.len() {
            clean.push('…');
        }
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_made_unrecognisable() {
        for (text, clean) in [
            ("", ""),
            ("~my-task", "~my-task"),
            (
                "tokens begin with apify_api_",
                "tokens begin with apify_api_",
            ),
            ("apify_api_aB3", "apify_api_…"),
            (
                "a/apify_api_x.db: ä \"apify_api_y-z_\"",
                "a/apify_api_….db: ä \"apify_api_…\"",
            ),
            ("APIFY_API_AB3", "APIFY_API_…"),
            ("é apify_api_é", "é apify_api_é"),
        ] {
            assert_eq!(without_tokens(text), clean);
            assert_eq!(looks_like_token(text), text != clean, "{text}");
        }
    }
}
