//! Variables in the texts of messages, such as `{{code}}`.

use crate::problem::{Code, Problem};

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Literal(&'t str),
    Variable(&'t str),
}

/// Splits a text into its variables and what is between them. Braces that do not surround a name are literal.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut literal, mut at) = (Vec::new(), 0, 0);
    while let Some(begin) = text[at..].find("{{").map(|found| at + found) {
        match leading_name(&text[begin + 2..]) {
            Some((name, length)) => {
                pieces.push(Piece::Literal(&text[literal..begin]));
                pieces.push(Piece::Variable(name));
                at = begin + 2 + length;
                literal = at;
            }
            // A variable may begin with the second brace.
            None => at = begin + 1,
        }
    }
    pieces.push(Piece::Literal(&text[literal..]));
    pieces
}

/// Returns the name of the variable whose opening braces precede `text`, and the number of bytes up to the end of its
/// closing braces. Returns `None` if there is no variable.
fn leading_name(text: &str) -> Option<(&str, usize)> {
    let (inside, _) = text.split_once("}}")?;
    let name = inside.trim();
    let is_letter = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
    (!name.is_empty() && name.chars().all(is_letter)).then_some((name, inside.len() + 2))
}

/// Iterates over the names of the variables in a text.
pub(crate) fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Variable(name) => Some(name),
        Piece::Literal(_) => None,
    })
}

/// Replaces the variables in a text by their values. Variables in the values are not replaced.
///
/// # Errors
/// Returns error code 60224, with the name of the variable, for the first one that has no value.
pub(crate) fn expand<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, Problem> {
    let mut expanded = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Literal(literal) => expanded.push_str(literal),
            Piece::Variable(name) => {
                let missing = || Problem::with_advice(Code::MissingSubstitution, name);
                expanded.push_str(value(name).ok_or_else(missing)?);
            }
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(text: &str) -> String {
        expand(text, |name| Some(if name == "a" { "1" } else { "2" })).unwrap()
    }

    #[test]
    fn variables_are_replaced_and_other_braces_stay() {
        for (text, expected) in [
            ("", ""),
            ("x", "x"),
            ("{{a}}", "1"),
            ("{{ a }}-{{b}}{{a}}", "1-21"),
            ("{{{a}}}", "{1}"),
            ("{{}} {{ }} {{a b}} {{a", "{{}} {{ }} {{a b}} {{a"),
            ("{{x {{a}}", "{{x 1"),
            ("{a} }} {", "{a} }} {"),
            ("ü{{a}}ü{", "ü1ü{"),
            ("{{größe}}", "2"),
        ] {
            assert_eq!(expanded(text), expected, "{text}");
        }
        assert_eq!(names("{{a}} {{b}} {{a}} {{").collect::<Vec<_>>(), ["a", "b", "a"]);
    }

    #[test]
    fn variable_without_a_value_is_named_in_the_error() {
        let problem = expand("{{a}} {{user}}", |name| (name == "a").then_some("1")).unwrap_err();
        assert_eq!(problem.code(), Code::MissingSubstitution);
        assert!(problem.message().ends_with(": user"), "{}", problem.message());
    }

    proptest! {
        #[test]
        fn text_without_variables_is_unchanged(text in "[^{]*|[{}]*|[{}a ü]*") {
            if names(&text).next().is_none() {
                prop_assert_eq!(expanded(&text), text);
            }
        }

        #[test]
        fn values_are_not_expanded(value in "[{}ab]*", before in "[^{]*", after in "[^}]*") {
            let text = format!("{before}{{{{a}}}}{after}");
            prop_assume!(names(&after).next().is_none());
            let found = expand(&text, |_| Some(value.as_str()));
            prop_assert_eq!(found, Ok(format!("{before}{value}{after}")));
        }
    }
}
