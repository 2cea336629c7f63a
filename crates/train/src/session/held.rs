//! How a session holds its data: it borrows them, or it shares them and then borrows nothing.

use crate::task::Data;
use std::ops::Deref;
use std::sync::Arc;

/// The data of a [`Session`](super::Session). Its functions take whatever becomes one of these: a reference to the data, or an
/// `Arc<dyn Data>`.
#[derive(Clone)]
pub enum HeldData<'a> {
    /// Data of the caller.
    Borrowed(&'a dyn Data),
    /// Data that live as long as somebody holds them.
    Shared(Arc<dyn Data>),
}

impl<'a> Deref for HeldData<'a> {
    type Target = dyn Data + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Borrowed(data) => *data,
            Self::Shared(data) => &**data,
        }
    }
}

impl<'a, D: Data> From<&'a D> for HeldData<'a> {
    fn from(data: &'a D) -> Self {
        Self::Borrowed(data)
    }
}

impl<'a> From<&'a dyn Data> for HeldData<'a> {
    fn from(data: &'a dyn Data) -> Self {
        Self::Borrowed(data)
    }
}

impl From<Arc<dyn Data>> for HeldData<'_> {
    fn from(data: Arc<dyn Data>) -> Self {
        Self::Shared(data)
    }
}
