//! Form parameters of one-time codes and of what governs them. Their errors have the code 60200, which clients of
//! verifications know (docs/protocol/verifications.md).

use domain::parameter::Parameter;
use domain::problem::Problem;
use web::Form;

/// Returns the value of an optional parameter, like [`Form::optional`].
///
/// # Errors
/// Returns error code 60200 if the value cannot be parsed, and 60306 if the parameter appears more than once.
pub(crate) fn optional<T: Parameter>(form: &Form, name: &str) -> Result<Option<T>, Problem> {
    form.optional_or(name, |_| Problem::invalid_parameter(name))
}

/// Returns the value of a required parameter, like [`Form::required`].
///
/// # Errors
/// Returns error code 20001 if the parameter is missing or empty, and the same errors as [`optional`].
pub(crate) fn required<T: Parameter>(form: &Form, name: &str) -> Result<T, Problem> {
    optional(form, name)?.ok_or_else(|| Problem::missing(name))
}

/// Sets `field` to the parameter's value, like [`Form::set`].
///
/// # Errors
/// Returns the same errors as [`optional`].
pub(crate) fn set<T: Parameter>(form: &Form, name: &str, field: &mut T) -> Result<(), Problem> {
    if let Some(value) = optional(form, name)? {
        *field = value;
    }
    Ok(())
}

/// Sets `field` to the parameter's value, or to `None` if the value is empty, like [`Form::set_or_clear`].
///
/// # Errors
/// Returns the same errors as [`optional`].
pub(crate) fn set_or_clear<T: Parameter>(
    form: &Form,
    name: &str,
    field: &mut Option<T>,
) -> Result<(), Problem> {
    if form.text(name)?.is_some() {
        *field = optional(form, name)?;
    }
    Ok(())
}
