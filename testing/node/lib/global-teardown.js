// For `globalTeardown` of Jest: stops the server that the global setup started.
"use strict";

module.exports = require("./global-setup.js").teardown;
