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

/// A pattern that paths are read by, in its written form. What follows after its last part may be anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pattern<T>(T);

/// What is wrong with a pattern. A constant one is looked at while compiling.
pub(super) const fn fault(pattern: &str) -> Option<&'static str> {
    let mut rest = pattern.as_bytes();
    if !matches!(rest, [b'/', ..]) {
        return Some("does not begin with a slash");
    }
    let (mut workspaces, mut projects) = (0, 0);
    while let [first, after @ ..] = rest {
        if *first == b'/' {
            workspaces += if begins_with(after, b"{workspace}") { 1 } else { 0 };
            projects += if begins_with(after, b"{project}") { 1 } else { 0 };
        }
        rest = after;
    }
    match (workspaces, projects) {
        (1, 0 | 1) => None,
        (1, _) => Some("names the project more than once"),
        _ => Some("does not name the {workspace} exactly once"),
    }
}

/// Whether `segment` is the whole first segment.
const fn begins_with(mut path: &[u8], mut segment: &[u8]) -> bool {
    loop {
        match (path, segment) {
            ([] | [b'/', ..], []) => return true,
            ([a, path_after @ ..], [b, segment_after @ ..]) if *a == *b => {
                (path, segment) = (path_after, segment_after)
            }
            _ => return false,
        }
    }
}

#[cfg(feature = "axum")]
impl Pattern<&'static str> {
    /// A constant in which [`fault`] found nothing while it was compiled.
    pub(super) const fn sound(pattern: &'static str) -> Self {
        Self(pattern)
    }
}

impl<T: AsRef<str>> Pattern<T> {
    pub(super) fn parse(pattern: T) -> Result<Self, PatternError> {
        match fault(pattern.as_ref()) {
            None => Ok(Self(pattern)),
            Some(what) => Err(PatternError { pattern: pattern.as_ref().to_owned(), what }),
        }
    }

    /// The place that a path names. `None`: the path is of another form, or what stands there cannot be a place.
    pub(super) fn place(&self, path: &str) -> Option<String> {
        let mut given = path.strip_prefix('/')?.split('/');
        let (mut workspace, mut project) = (None, None);
        for part in self.0.as_ref().strip_prefix('/')?.split('/') {
            let text = given.next()?;
            match part {
                "{workspace}" => workspace = Some(decoded(text)?),
                "{project}" => project = Some(decoded(text)?),
                // Whatever.
                _ if part.starts_with('{') && part.ends_with('}') => {}
                _ if part == text => {}
                _ => return None,
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
