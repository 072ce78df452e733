// SPDX-License-Identifier: MIT
// Sends one mail by nodemailer. Standard input: {"transport": {…}, "mail": {…}} as nodemailer wants them.
"use strict";
const { readFileSync } = require("node:fs");
const { createTransport } = require("nodemailer");

const { transport, mail } = JSON.parse(readFileSync(0, "utf8"));
createTransport(transport).sendMail(mail, (error) => {
  if (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
});
