//! Lists from which files and the command line choose: samplers, schedules, processes, tasks, methods.
//!
//! An entry is one file: `entry!` declares its parameters once, as the fields of a serde struct, with meaning, default and
//! range. A table is one macro with a row for each file; from its rows come the modules (`modules!`) and the enum that a
//! file's `kind:` chooses from (`one_of!`).

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, json};

/// Description of an entry of a list.
#[derive(Debug)]
pub struct Info {
    /// Name in files and on the command line.
    pub name: &'static str,
    /// The entry in a line.
    pub what: &'static str,
    /// Equation, explanation: the documentation of its struct.
    pub text: &'static str,
    /// The paper; empty where there is none.
    pub source: &'static str,
    /// Further columns of the list: order and randomness of a sampler, for example.
    pub facts: &'static [(&'static str, &'static str)],
    /// Other names for it.
    pub aliases: &'static [Alias],
    /// Parameters, in the order in which they are written.
    pub parameters: &'static [Parameter],
    /// An example, where the name alone is not enough or not the best example.
    pub example: Option<&'static str>,
    /// Parameters with their defaults, as a map.
    pub defaults: fn() -> Value,
}

/// Parameters and their values as JSON.
pub type Sets = &'static [(&'static str, &'static str)];

/// Another name for an entry, as other packages have it.
#[derive(Debug)]
pub struct Alias {
    /// The name.
    pub name: &'static str,
    /// Parameters that go with it.
    pub sets: Sets,
}

/// A parameter of an entry.
#[derive(Debug)]
pub struct Parameter {
    /// Key.
    pub name: &'static str,
    /// The documentation of its field.
    pub meaning: &'static str,
    /// Unit; empty for a pure number or a word.
    pub unit: &'static str,
    /// Allowed values.
    pub range: &'static str,
    /// Meaning of leaving it out, where no default value says so.
    pub absent: &'static str,
    /// Whether it must be given.
    pub required: bool,
}

/// A choice that is listed.
pub trait Entry {
    /// Description of the entry.
    const INFO: Info;
}

/// A list.
#[derive(Debug)]
pub struct List {
    /// Word for an entry: sampler, task.
    pub noun: &'static str,
    /// All entries, in the order of the table.
    pub entries: &'static [&'static Info],
    /// Names that other packages use for something else, and a sentence on how it differs and what comes nearest.
    pub others: &'static [(&'static str, &'static str)],
    /// The entry, and its parameter, that a bare list of numbers stands for.
    pub sequence: Option<(&'static str, &'static str)>,
}

impl List {
    /// The entry of this name or alias, and the parameters that the alias sets; or a sentence that leads to the right name.
    pub fn find(&self, name: &str) -> Result<(&'static Info, Sets), String> {
        let named = self.entries.iter().find(|info| info.name == name).map(|info| (*info, [].as_slice()));
        let alias = |info: &&'static Info| {
            info.aliases.iter().find(|alias| alias.name == name).map(|alias| (*info, alias.sets))
        };
        named.or_else(|| self.entries.iter().find_map(alias)).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> String {
        if let Some((_, sentence)) = self.others.iter().find(|(other, _)| *other == name) {
            return format!("no {} here is called `{name}`: {sentence}", self.noun);
        }
        let head = format!("no {} is called `{name}`", self.noun);
        if let Some(near) = nearest(name, self.names()) {
            return format!("{head}: did you mean `{near}`?");
        }
        let names = || self.entries.iter().map(|info| info.name);
        let longer: Vec<_> = names().filter(|longer| name.len() > 1 && longer.contains(name)).collect();
        let names = if longer.is_empty() { names().collect() } else { longer };
        format!("{head}: there {} {}", if names.len() == 1 { "is" } else { "are" }, names.join(", "))
    }

    /// Every name that leads to an entry.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().flat_map(|info| [info.name].into_iter().chain(info.aliases.iter().map(|alias| alias.name)))
    }
}

/// The word that a slip of the pen would turn into `wrong`.
pub(crate) fn nearest<'a>(wrong: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    closest(wrong, words, 1 + wrong.len() / 4)
}

/// The word at the least distance from `wrong`, at most `most` edits; of several, one that `wrong` abbreviates.
pub(crate) fn closest<'a>(wrong: &str, words: impl Iterator<Item = &'a str>, most: usize) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['_', ' '], "-");
    let wrong = plain(wrong);
    let apart = |word: &&str| strsim::damerau_levenshtein(&wrong, &plain(word));
    let abbreviated = |word: &str| {
        let mut letters = word.chars();
        wrong.chars().all(|letter| letters.any(|other| other == letter))
    };
    words.filter(|word| apart(word) <= most).min_by_key(|word| (apart(word), !abbreviated(&plain(word))))
}

impl Info {
    /// An entry without parameters.
    pub const fn new(name: &'static str, what: &'static str, source: &'static str) -> Self {
        let (facts, aliases, parameters) = (&[], &[], &[]);
        Self { name, what, text: "", source, facts, aliases, parameters, example: None, defaults: || Value::Null }
    }

    /// The words that ask for it: its name alone where that is enough.
    pub fn asked(&self) -> String {
        self.example.map_or_else(|| self.name.to_owned(), str::to_owned)
    }

    /// The parameters that must be given.
    pub fn required(&self) -> impl Iterator<Item = &'static Parameter> {
        self.parameters.iter().filter(|parameter| parameter.required)
    }

    /// The default of a parameter; none where it must be given, or where leaving it out is a choice of its own.
    pub fn default(&self, parameter: &Parameter) -> Option<Value> {
        let value = (self.defaults)().get_mut(parameter.name)?.take();
        (!parameter.required && !value.is_null()).then_some(value)
    }

    /// All of it as JSON.
    pub fn json(&self) -> Value {
        let parameter = |p: &Parameter| {
            json!({
                "name": p.name, "meaning": plain(p.meaning), "unit": p.unit, "range": p.range, "absent": p.absent,
                "required": p.required, "default": self.default(p),
            })
        };
        let alias = |a: &Alias| {
            let sets = a.sets.iter().map(|(name, text)| ((*name).to_owned(), value(text)));
            json!({"name": a.name, "sets": sets.collect::<serde_json::Map<_, _>>()})
        };
        let mut record = json!({
            "name": self.name, "what": self.what, "source": self.source, "text": plain(self.text),
            "aliases": self.aliases.iter().map(alias).collect::<Vec<_>>(),
            "parameters": self.parameters.iter().map(parameter).collect::<Vec<_>>(), "example": self.asked(),
        });
        for (name, fact) in self.facts {
            record[*name] = json!(fact);
        }
        record
    }

    /// A sentence about what `given` lacks, if anything; a misspelt key is reported first.
    fn missing(&self, given: &[String]) -> Option<String> {
        let known = |key: &String| key == "kind" || self.parameters.iter().any(|p| p.name == key);
        if let (Some(wrong), true) = (given.iter().find(|key| !known(key)), self.required().next().is_some()) {
            let near = nearest(wrong, self.parameters.iter().map(|p| p.name));
            let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            return Some(format!("{} has no parameter `{wrong}`{hint}", self.name));
        }
        let missing: Vec<_> = self.required().filter(|p| !given.iter().any(|key| key == p.name)).collect();
        let names: Vec<_> = missing.iter().map(|p| format!("`{}`", p.name)).collect();
        let what = if names.len() == 1 { "a parameter" } else { "parameters" };
        (!names.is_empty())
            .then(|| format!("{} needs {what}, {}, as in {}", self.name, names.join(" and "), self.asked()))
    }
}

/// Documentation as a terminal shows it: without links, escapes and fences; what is fenced is indented by four spaces.
pub fn plain(text: &str) -> String {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)) {
        match line.starts_with("```") {
            true => fenced = !fenced,
            false if fenced => lines.push(format!("    {line}")),
            false => lines.push(unlinked(&line.replace("\\[", "[").replace("\\]", "]"))),
        }
    }
    lines.join("\n").trim_end().to_owned()
}

/// The line with `name` in place of each link [`name`] or [`name`](path).
fn unlinked(line: &str) -> String {
    let Some((before, rest)) = line.split_once("[`") else { return line.to_owned() };
    let Some((name, after)) = rest.split_once("`]") else { return line.to_owned() };
    let path = after.strip_prefix('(').and_then(|path| path.split_once(')'));
    format!("{before}`{name}`{}", unlinked(path.map_or(after, |(_, after)| after)))
}

/// A value that an alias sets: JSON, or else a word.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// Reads the choice from a list: a bare name, or a map with `kind` and parameters; of some lists a sequence of numbers.
pub struct Choice<T>(pub &'static List, pub PhantomData<T>);

impl<T> fmt::Debug for Choice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Choice").field(&self.0.noun).finish()
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Choice<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a {}, or a map with its name as `kind`", self.0.noun)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<T, E> {
        let (info, sets) = self.0.find(name).map_err(E::custom)?;
        if let Some(sentence) = info.missing(&[]) {
            return Err(E::custom(sentence));
        }
        let sets = sets.iter().map(|(name, text)| ((*name).to_owned(), value(text)));
        let map: serde_json::Map<_, _> = sets.chain([("kind".to_owned(), json!(info.name))]).collect();
        T::deserialize(Value::Object(map)).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<T, A::Error> {
        let Some((kind, parameter)) = self.0.sequence else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        };
        let mut numbers: Vec<f64> = Vec::new();
        while let Some(number) = sequence.next_element()? {
            numbers.push(number);
        }
        T::deserialize(json!({"kind": kind, parameter: numbers})).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let given = EntryFields { map, list: self.0, found: None, sets: [].iter(), keys: Vec::new(), preset: None };
        T::deserialize(MapAccessDeserializer::new(given))
    }
}

/// The map that a file gives, with the entry's own name in place of an alias, and what the alias sets.
struct EntryFields<A> {
    map: A,
    list: &'static List,
    found: Option<&'static Info>,
    sets: std::slice::Iter<'static, (&'static str, &'static str)>,
    /// Those that the file gives.
    keys: Vec<String>,
    /// The value of the key before, if the alias sets it.
    preset: Option<Value>,
}

impl<A> EntryFields<A> {
    /// The next parameter that the alias sets; or a sentence about what the file lacks, or says otherwise.
    fn next_set(&mut self) -> Result<Option<&'static str>, String> {
        if let Some((name, text)) = self.sets.next() {
            if self.keys.iter().any(|key| key == name) {
                return Err(format!("the name given as `kind` sets `{name}` itself: leave one of them out"));
            }
            self.preset = Some(value(text));
            return Ok(Some(name));
        }
        match self.found {
            Some(info) => info.missing(&self.keys).map_or(Ok(None), Err),
            None => Err(format!("no `kind`: a {} is wanted by its name", self.list.noun)),
        }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for EntryFields<A> {
    type Error = A::Error;

    fn next_key_seed<K: serde::de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        if let Some(key) = self.map.next_key::<String>()? {
            self.keys.push(key.clone());
            return seed.deserialize(key.into_deserializer()).map(Some);
        }
        let set = self.next_set().map_err(A::Error::custom)?;
        set.map(|name| seed.deserialize(name.into_deserializer())).transpose()
    }

    fn next_value_seed<V: serde::de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        if let Some(value) = self.preset.take() {
            return seed.deserialize(value).map_err(A::Error::custom);
        }
        if self.keys.last().is_none_or(|key| key != "kind") {
            return self.map.next_value_seed(seed);
        }
        let (info, sets) = self.list.find(&self.map.next_value::<String>()?).map_err(A::Error::custom)?;
        (self.found, self.sets) = (Some(info), sets.iter());
        seed.deserialize(info.name.into_deserializer())
    }
}

/// Declares an entry of a list: its struct with serde and defaults, and what the list says of it.
///
/// ```text
/// entry! {
///     name: "ddim", what: "a line", source: "DDIM, Eq. 12", facts: {order: "1"},
///     aliases: ["euler", "ancestral" {"eta": "1"}], example: "{kind: ddim, eta: 0.5}",
///     /// Its equation.
///     pub struct Ddim {
///         /// Its meaning.
///         pub eta: f64 = 0.0 => "0 … 1",
///     }
/// }
/// ```
///
/// After a field's `=>` come its range, and where there are, `in` its unit, and `or` what leaving it out means; a field
/// without a default must be given. Aliases, facts and example may be left out.
macro_rules! entry {
    (
        name: $name:literal, what: $what:literal, source: $source:literal,
        $(facts: { $($fact:ident: $of:literal),* $(,)? },)?
        $(aliases: [$($alias:literal $({ $($key:literal: $set:literal),+ })?),* $(,)?],)?
        $(example: $example:literal,)?
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:ident),+)])?
        pub struct $struct:ident {
            $(
                $(#[doc = $meaning:literal])*
                pub $field:ident: $type:ty $(= $default:expr)? => $range:literal $(in $unit:literal)? $(or $absent:literal)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize $($(, $derive)+)?)]
        #[serde(deny_unknown_fields, default)]
        pub struct $struct {
            $(
                $(#[doc = $meaning])*
                #[doc = ""]
                $(#[doc = concat!("Default: `", stringify!($default), "`.")])?
                #[doc = concat!("Range: ", $range, $(", in ", $unit,)? ".")]
                pub $field: $type
            ),*
        }

        impl Default for $struct {
            fn default() -> Self {
                Self { $($field: $crate::numbers::registry::entry!(@default $($default)?)),* }
            }
        }

        impl $crate::numbers::registry::Entry for $struct {
            const INFO: $crate::numbers::registry::Info = $crate::numbers::registry::Info {
                name: $name,
                what: $what,
                text: concat!($($doc, "\n"),*),
                source: $source,
                facts: &[$($((stringify!($fact), $of)),*)?],
                aliases: &[$($($crate::numbers::registry::Alias {
                    name: $alias,
                    sets: &[$($(($key, $set)),+)?],
                }),*)?],
                parameters: &[$($crate::numbers::registry::Parameter {
                    name: stringify!($field),
                    meaning: concat!($($meaning, "\n"),*),
                    unit: concat!($($unit)?),
                    range: $range,
                    absent: concat!($($absent)?),
                    required: $crate::numbers::registry::entry!(@required $($default)?),
                }),*],
                example: $crate::numbers::registry::entry!(@option $($example)?),
                defaults: || serde_json::to_value(Self::default()).unwrap_or_default(),
            };
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@required) => { true };
    (@required $default:expr) => { false };
    (@option) => { None };
    (@option $value:expr) => { Some($value) };
}
pub(crate) use entry;

/// Declares the files of a table as modules, and all that is public in them as its own.
macro_rules! modules {
    ({ $($file:ident: $($struct:ident)+),+ $(,)? }) => {
        $(mod $file; pub use $file::*;)+
    };
}
pub(crate) use modules;

/// Declares what is listed of one table, where an enum holds several.
macro_rules! entries {
    ({ $($file:ident: $($struct:ident)+),+ $(,)? }) => {
        /// Descriptions of the entries.
        pub const ENTRIES: &[&$crate::numbers::registry::Info] =
            &[$($(&<$struct as $crate::numbers::registry::Entry>::INFO),+),+];
    };
}
pub(crate) use entries;

/// Declares the enum of all implementations of a trait; `kind:` in a file picks one, and so does a bare name.
///
/// Each variant wraps the struct of the same name. The rows are those of one table or of several.
macro_rules! one_of {
    (
        {
            $(#[$doc:meta])*
            pub enum $name:ident: $trait:ident = $noun:literal
            $(, others: $others:expr)? $(, sequence: ($kind:literal, $parameter:literal))? $(,)?
        }
        $(, { $($file:ident: $($variant:ident)+),+ $(,)? })+
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum $name {
            $($($(#[doc = concat!("See [`", stringify!($variant), "`].")] $variant($variant)),+),+),+
        }

        impl $name {
            /// The list of the entries.
            pub const LIST: $crate::numbers::registry::List = $crate::numbers::registry::List {
                noun: $noun,
                entries: &[$($($(&<$variant as $crate::numbers::registry::Entry>::INFO),+),+),+],
                others: $crate::numbers::registry::one_of!(@or &[] $(, $others)?),
                sequence: $crate::numbers::registry::one_of!(@or None $(, Some(($kind, $parameter)))?),
            };

            /// The chosen implementation.
            pub fn get(&self) -> &dyn $trait {
                match self { $($($(Self::$variant(chosen) => chosen),+),+),+ }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(tag = "kind", rename_all = "kebab-case")]
                enum Tagged { $($($($variant($variant)),+),+),+ }

                let choice = $crate::numbers::registry::Choice::<Tagged>(&Self::LIST, std::marker::PhantomData);
                Ok(match deserializer.deserialize_any(choice)? {
                    $($($(Tagged::$variant(chosen) => Self::$variant(chosen)),+),+),+
                })
            }
        }

        $($($(impl From<$variant> for $name {
            fn from(chosen: $variant) -> Self {
                Self::$variant(chosen)
            }
        })+)+)+
    };
    (@or $default:expr) => { $default };
    (@or $default:expr, $given:expr) => { $given };
}
pub(crate) use one_of;
