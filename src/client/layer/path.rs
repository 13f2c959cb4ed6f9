//! Where in a path the place stands: `/workspaces/{workspace}/projects/{project}/tasks`.

use crate::domain::place::is_place;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {pattern:?} {what}")]
pub struct PatternError {
    /// The pattern as it came.
    pub pattern: String,
    /// What is wrong with it.
    pub what: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// These very bytes.
    Text(Box<str>),
    Workspace,
    Project,
    /// Whatever.
    Any,
}

/// A pattern that paths are read by. What follows after its last part may be anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern(Box<[Part]>);

impl Pattern {
    pub(super) fn parse(pattern: &str) -> Result<Self, PatternError> {
        let wrong = |what| Err(PatternError { pattern: pattern.to_owned(), what });
        let Some(rest) = pattern.strip_prefix('/') else { return wrong("does not begin with a slash") };
        let parts: Box<[Part]> = rest
            .split('/')
            .map(|part| match part {
                "{workspace}" => Part::Workspace,
                "{project}" => Part::Project,
                _ if part.starts_with('{') && part.ends_with('}') => Part::Any,
                _ => Part::Text(part.into()),
            })
            .collect();
        let count = |wanted: &Part| parts.iter().filter(|part| *part == wanted).count();
        match (count(&Part::Workspace), count(&Part::Project)) {
            (1, 0 | 1) => Ok(Self(parts)),
            (1, _) => wrong("names the project more than once"),
            _ => wrong("does not name the {workspace} exactly once"),
        }
    }

    /// The place that a path names. `None`: the path is of another form, or what stands there cannot be a place.
    pub(super) fn place(&self, path: &str) -> Option<String> {
        let mut given = path.strip_prefix('/')?.split('/');
        let (mut workspace, mut project) = (None, None);
        for part in &self.0 {
            let text = given.next()?;
            match part {
                Part::Text(wanted) if **wanted == *text => {}
                Part::Text(_) => return None,
                Part::Workspace => workspace = Some(decoded(text)?),
                Part::Project => project = Some(decoded(text)?),
                Part::Any => {}
            }
        }
        // An id with a slash in it would name another place than the route does.
        let parts = [workspace.as_ref(), project.as_ref()];
        if parts.iter().flatten().any(|id| id.contains('/')) {
            return None;
        }
        let place = match (workspace?, project) {
            (workspace, None) => workspace,
            (workspace, Some(project)) => format!("{workspace}/{project}"),
        };
        is_place(&place).then_some(place)
    }
}

/// A segment with its percent-encoding undone. `None`: it is not in order.
fn decoded(segment: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = segment.bytes();
    let mut plain = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(plain).ok()
}
