//! Placeholder of the index: what the list amounts to, in memory.

/// The right to look into the index for a moment. Not `Send`: it cannot be carried across an `.await`.
#[derive(Debug)]
pub struct Pin<'i> {
    _not_send: std::marker::PhantomData<(*const (), &'i ())>,
}
