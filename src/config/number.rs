//! Settings that are numbers with fixed bounds.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::setting::{Setting, Shape, Shown};
use super::source::{Place, Report};

/// Numbers with bounds.
macro_rules! bounded {
    ($($(#[$doc:meta])* $name:ident($number:ty, $least:literal..=$most:literal), $shape:expr;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, Default, PartialEq)]
            pub(crate) struct $name(pub(crate) $number);

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let number = <$number>::deserialize(deserializer)?;
                    if ($least..=$most).contains(&number) {
                        Ok(Self(number))
                    } else {
                        Err(D::Error::custom(concat!($least, " to ", $most, " is wanted")))
                    }
                }
            }

            impl Setting for $name {
                fn shape() -> Shape {
                    $shape
                }

                fn shown(&self, _: &Report, _: Place) -> Shown {
                    Shown::Leaf(self.0.into())
                }
            }
        )+
    };
}

bounded! {
    /// A number of things.
    Count(u64, 1..=10_000_000), Shape::Whole(1, Some(10_000_000));
    /// A TCP port to connect to.
    Port(u64, 1..=65535), Shape::Whole(1, Some(65535));
    /// What a pause is multiplied with.
    Factor(f64, 1.0..=100.0), Shape::Number(1, 100);
    /// A spam score.
    Points(f64, 0.0..=1000.0), Shape::Number(0, 1000);
}
