//! Faults: their names, arguments, and effects on a reply.
//!
//! Each table stands beside its functions, so that name, help and effect stay together.

/// A table of faults with one kind of effect. A row is `NAME [ARGUMENT]: HELP => FUNCTION;`.
macro_rules! faults {
    ($effect:ident: $($name:literal $([$takes:expr])?: $help:literal => $act:expr;)*) => {
        &[$($crate::fault::Entry {
            name: $name,
            takes: faults!(@takes $($takes)?),
            help: $help,
            effect: $crate::fault::Effect::$effect($act),
        }),*]
    };
    (@takes) => { $crate::fault::Takes::Nothing };
    (@takes $takes:expr) => { $takes };
}

mod body;
mod book;
mod delivery;
mod ending;
mod framing;
mod head;
mod pace;
mod refusal;
mod spec;
mod status;
mod syntax;
mod token;

pub use book::Book;
pub use delivery::{Delivery, scripted};
pub use spec::Spec;
pub use status::REDIRECT_TARGET;

use crate::{
    answer::Answer,
    success::{Case, Plan},
};

/// One fault that can be asked for.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    pub takes: Takes,
    pub help: &'static str,
    pub effect: Effect,
}

/// What a fault takes after its name.
#[derive(Debug)]
pub enum Takes {
    Nothing,
    Number {
        default: i64,
        min: i64,
        max: i64,
    },
    /// One of these; the first is the default.
    Word(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    Nothing,
    Number(i64),
    Word(&'static str),
}

/// What a fault acts on, in the order in which a reply is made.
#[derive(Debug)]
pub enum Effect {
    /// The token to be made.
    Token(fn(&mut Plan, Argument)),
    /// Status, headers and body.
    Answer(fn(&mut Answer, &Case<'_>, Argument)),
    /// How the reply is sent.
    Delivery(fn(&Answer, Argument) -> Delivery),
}

impl Argument {
    pub fn number(self) -> i64 {
        match self {
            Self::Number(number) => number,
            Self::Nothing | Self::Word(_) => 0,
        }
    }

    /// For sizes and times, which are never negative.
    pub fn size(self) -> usize {
        usize::try_from(self.number()).unwrap_or(0)
    }

    pub fn millis(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.number().unsigned_abs())
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Word(word) => word,
            Self::Nothing | Self::Number(_) => "",
        }
    }
}

impl Takes {
    pub fn default(&self) -> Argument {
        match self {
            Self::Nothing => Argument::Nothing,
            Self::Number { default, .. } => Argument::Number(*default),
            Self::Word(words) => {
                words.first().map_or(Argument::Nothing, |word| Argument::Word(word))
            }
        }
    }

    /// The argument that `text` stands for, if it is one.
    pub fn read(&self, text: &str) -> Option<Argument> {
        match self {
            Self::Nothing => None,
            Self::Number { min, max, .. } => {
                let number = text.parse().ok()?;
                (*min..=*max).contains(&number).then_some(Argument::Number(number))
            }
            Self::Word(words) => {
                words.iter().find(|word| **word == text).map(|word| Argument::Word(word))
            }
        }
    }

    /// How the argument is written in the help.
    pub fn usage(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Number { default, .. } => format!("[:N={default}]"),
            Self::Word(words) => format!("[:{}]", words.join("|")),
        }
    }
}

/// All faults with the heading of their group, in the order of the help.
pub fn catalogue() -> [(&'static str, &'static [Entry]); 9] {
    [
        ("The lifetime of the token", token::TABLE),
        ("Headers and time", head::TABLE),
        ("Status", status::TABLE),
        ("The success document", body::TABLE),
        ("Problem documents", refusal::TABLE),
        ("On the wire: the end of the connection", ending::TABLE),
        ("On the wire: pace and length", pace::TABLE),
        ("On the wire: framing", framing::TABLE),
        ("On the wire: syntax", syntax::TABLE),
    ]
}

fn find(name: &str) -> Option<&'static Entry> {
    catalogue().into_iter().flat_map(|(_, table)| table).find(|entry| entry.name == name)
}

/// A short form for the tables.
const fn number(default: i64, min: i64, max: i64) -> Takes {
    Takes::Number { default, min, max }
}

/// JSON arrays within each other.
fn nest(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}
