# SPDX-License-Identifier: MIT
# Sends one ready message by Ruby's net/smtp. Standard input: the order as JSON; see matrix.py.
require "base64"
require "json"
require "net/smtp"

order = JSON.parse($stdin.read)
smtp = Net::SMTP.new(order["host"], order["port"])
context = OpenSSL::SSL::SSLContext.new
context.set_params(ca_file: order["ca_file"])
case order["security"]
when "plain" then smtp.disable_starttls
when "STARTTLS" then smtp.enable_starttls(context)
else smtp.enable_tls(context)
end
login = order["mechanism"].empty? ? [] : [order["user"], order["password"], order["mechanism"].downcase.to_sym]
smtp.start("client.example", *login) do |session|
  session.send_message(Base64.decode64(order["message"]), order["sender"], order["recipient"])
end
