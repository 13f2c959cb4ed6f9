//! A place: a workspace, or a project in one.
//!
//! Written `1579` or `1579/4021`. Access to a workspace covers its projects, never the other way round. Whether a
//! place exists is the platform's affair; a place we have never heard of is simply one where nobody has anything.

use std::fmt;

use super::id::{IdError, Slash, WorkspaceId, check_id};

/// The longest written place: two ids and a slash, in bytes.
pub const PLACE_BYTES_MAX: usize = 2 * super::id::ID_BYTES_MAX + 1;

/// Whether `text` is the written form of a place; allocates nothing.
pub fn is_place(text: &str) -> bool {
    let is_id = |part: &str| check_id(part, "the place", Slash::Refused).is_ok();
    text.split_once('/').map_or_else(|| is_id(text), |(workspace, project)| is_id(workspace) && is_id(project))
}

/// A workspace (`1579`), or a project in one (`1579/4021`), in its written form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(Box<str>);

impl Place {
    /// Parses `workspace` or `workspace/project`.
    ///
    /// # Errors
    /// [`IdError`] names the part that is wrong and the byte in it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text.split_once('/') {
            None => check_id(text, "the workspace", Slash::Refused)?,
            Some((workspace, project)) => {
                check_id(workspace, "the workspace", Slash::Refused)?;
                check_id(project, "the project", Slash::Refused)?;
            }
        }
        Ok(Self(text.into()))
    }

    /// The place that is a whole workspace.
    pub fn workspace(id: &WorkspaceId) -> Self {
        Self(id.as_str().into())
    }

    /// The written form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The workspace's id: this place's own, or the one it lies in.
    pub fn workspace_str(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(workspace, _)| workspace)
    }

    /// The project's id, if this place is a project.
    pub fn project_str(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, project)| project)
    }

    /// Whether this place is a project.
    pub fn is_project(&self) -> bool {
        self.0.contains('/')
    }

    /// Whether access to this place is access to `other`: the same place, or the workspace `other` lies in.
    pub fn covers(&self, other: &Place) -> bool {
        self == other || (!self.is_project() && self.as_str() == other.workspace_str())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", &self.0)
    }
}
