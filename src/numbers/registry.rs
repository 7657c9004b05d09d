//! The lists from which files and the command line choose.

/// Declares the enum of all implementations of a trait; `kind:` in a file picks one.
///
/// Each variant wraps the struct of the same name, so adding an implementation is one word here.
macro_rules! one_of {
    ($(#[$doc:meta])* pub enum $name:ident: $trait:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum $name {
            $(#[doc = concat!("See [`", stringify!($variant), "`].")] $variant($variant)),+
        }

        impl $name {
            /// The chosen implementation.
            pub fn get(&self) -> &dyn $trait {
                match self { $(Self::$variant(chosen) => chosen),+ }
            }
        }

        $(impl From<$variant> for $name {
            fn from(chosen: $variant) -> Self {
                Self::$variant(chosen)
            }
        })+
    };
}
pub(crate) use one_of;
