//! The kinds of change and the numbers they have in an entry: a closed list, to which is only ever added.

use crate::domain::Change;

/// The kinds of change, by the number each has in an entry. Numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "each stands for the change of the same name")]
pub enum Kind {
    RegisterClient = 1,
    SwitchClient = 2,
    SwitchSubject = 3,
    AddScope = 4,
    AliasScope = 5,
    RetireScope = 6,
    AddMember = 7,
    RemoveMember = 8,
    SetPolicyMode = 9,
    SwitchPersonal = 10,
    SetPolicyEntry = 11,
    MakeGrant = 12,
    NarrowGrant = 13,
    ExtendGrant = 14,
    RegisterToken = 15,
    Revoke = 16,
    ImportMark = 17,
}

impl Kind {
    /// Every kind, in the order of the numbers, which begin at 1.
    pub const ALL: [Self; 17] = [
        Self::RegisterClient,
        Self::SwitchClient,
        Self::SwitchSubject,
        Self::AddScope,
        Self::AliasScope,
        Self::RetireScope,
        Self::AddMember,
        Self::RemoveMember,
        Self::SetPolicyMode,
        Self::SwitchPersonal,
        Self::SetPolicyEntry,
        Self::MakeGrant,
        Self::NarrowGrant,
        Self::ExtendGrant,
        Self::RegisterToken,
        Self::Revoke,
        Self::ImportMark,
    ];

    /// The kind of a change.
    pub fn of(change: &Change) -> Self {
        match change {
            Change::RegisterClient(..) => Self::RegisterClient,
            Change::SwitchClient(..) => Self::SwitchClient,
            Change::SwitchSubject(..) => Self::SwitchSubject,
            Change::AddScope(..) => Self::AddScope,
            Change::AliasScope(..) => Self::AliasScope,
            Change::RetireScope(..) => Self::RetireScope,
            Change::AddMember(..) => Self::AddMember,
            Change::RemoveMember(..) => Self::RemoveMember,
            Change::SetPolicyMode(..) => Self::SetPolicyMode,
            Change::SwitchPersonal(..) => Self::SwitchPersonal,
            Change::SetPolicyEntry(..) => Self::SetPolicyEntry,
            Change::MakeGrant(..) => Self::MakeGrant,
            Change::NarrowGrant(..) => Self::NarrowGrant,
            Change::ExtendGrant(..) => Self::ExtendGrant,
            Change::RegisterToken(..) => Self::RegisterToken,
            Change::Revoke(..) => Self::Revoke,
            Change::ImportMark { .. } => Self::ImportMark,
        }
    }

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The word for reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RegisterClient => "register_client",
            Self::SwitchClient => "switch_client",
            Self::SwitchSubject => "switch_subject",
            Self::AddScope => "add_scope",
            Self::AliasScope => "alias_scope",
            Self::RetireScope => "retire_scope",
            Self::AddMember => "add_member",
            Self::RemoveMember => "remove_member",
            Self::SetPolicyMode => "set_policy_mode",
            Self::SwitchPersonal => "switch_personal",
            Self::SetPolicyEntry => "set_policy_entry",
            Self::MakeGrant => "make_grant",
            Self::NarrowGrant => "narrow_grant",
            Self::ExtendGrant => "extend_grant",
            Self::RegisterToken => "register_token",
            Self::Revoke => "revoke",
            Self::ImportMark => "import_mark",
        }
    }
}
