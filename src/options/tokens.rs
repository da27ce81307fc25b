//! API tokens and secrets of webhooks that were pasted where something else belongs.

/// How Apify's tokens and the secrets of webhooks begin, and the other characters than letters and digits in them.
const BEGINNINGS: [(&str, &str); 2] = [("apify_api_", "_-"), ("whsec_", "+/=")];

/// The mistake of a value that looks like a token or a secret. The value must not be shown.
pub const LOOKS_LIKE_A_TOKEN: &str = "looks like an API token or a webhook's secret, which does not belong here; the token \
     goes into the environment variable APIFY_TOKEN or into the file that `api.token_file` names, a secret into the file \
     that the webhook's `secret_file` names";

/// Whether an API token or a webhook's secret seems to be part of `text`.
pub fn looks_like_token(text: &str) -> bool {
    without_tokens(text) != text
}

/// `text`, with everything that looks like an API token or a webhook's secret made unrecognisable.
pub fn without_tokens(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    // Names of keys may have been put into capitals or small letters.
    while let Some((at, length, marks)) = first(rest) {
        let (before, found) = rest.split_at(at);
        let (beginning, token) = found.split_at(length);
        let part = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
        rest = token.trim_start_matches(part);
        clean.push_str(before);
        clean.push_str(beginning);
        if rest.len() < token.len() {
            clean.push('…');
        }
    }
    clean + rest
}

/// Where the first beginning is, its length, and the marks that may follow.
fn first(text: &str) -> Option<(usize, usize, &'static str)> {
    let text = text.to_ascii_lowercase();
    let found = BEGINNINGS
        .iter()
        .filter_map(|(beginning, marks)| Some((text.find(beginning)?, beginning.len(), *marks)));
    found.min()
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
            (
                "a whsec_aB+/3==, `whsec_` and apify_api_x",
                "a whsec_…, `whsec_` and apify_api_…",
            ),
            ("é apify_api_é", "é apify_api_é"),
        ] {
            assert_eq!(without_tokens(text), clean);
            assert_eq!(looks_like_token(text), text != clean, "{text}");
        }
    }
}
