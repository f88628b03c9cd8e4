//! The parameters in a request path.

/// The parameters in the path of a request, which has matched the path pattern of a route.
#[derive(Clone, Copy, Debug)]
pub struct PathParameters<'r> {
    /// The path pattern, with parameter names in braces.
    pub pattern: &'static str,
    /// The decoded path of the request.
    pub path: &'r str,
}

impl<'r> PathParameters<'r> {
    /// Returns the value of the parameter `name`, or `None` if the pattern has no such parameter.
    pub fn get(self, name: &str) -> Option<&'r str> {
        let is_named = |segment: &str| {
            segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
                .is_some_and(|found| found == name)
        };
        let mut segments = self.pattern.split('/').zip(self.path.split('/'));
        segments.find(|(segment, _)| is_named(segment)).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_is_found_by_its_name() {
        for text in ["user-0001", "%2F", "{Sid}", "é", "."] {
            let path = format!("/v2/Services/VA1/Entities/{text}");
            let parameters =
                PathParameters { pattern: "/v2/Services/{ServiceSid}/Entities/{Identity}", path: &path };
            let names = ["ServiceSid", "Identity", "Sid", "Services"];
            assert_eq!(names.map(|name| parameters.get(name)), [Some("VA1"), Some(text), None, None]);
        }
    }
}
