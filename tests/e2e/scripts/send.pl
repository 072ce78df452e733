# SPDX-License-Identifier: MIT
# Sends one ready message by Net::SMTP. Standard input: the order as JSON; see matrix.py.
use strict;
use warnings;
use Authen::SASL;
use JSON::PP;
use MIME::Base64;
use Net::SMTP;

my $order = decode_json(do { local $/; <STDIN> });
my $implicit = $order->{security} eq "implicit TLS";
my @tls = (SSL_ca_file => $order->{ca_file});
my $smtp = Net::SMTP->new($order->{host}, Port => $order->{port}, SSL => $implicit, @tls, Timeout => 30)
    or die "connect: $@";
if ($order->{security} eq "STARTTLS") {
    $smtp->starttls(@tls) or die "STARTTLS: $@";
}
if ($order->{mechanism}) {
    my %callback = (user => $order->{user}, pass => $order->{password}, authname => "");
    my $sasl = Authen::SASL->new(mechanism => $order->{mechanism}, callback => \%callback);
    $smtp->auth($sasl) or die "AUTH: " . $smtp->message;
}
my ($sender, $recipient) = ($order->{sender}, $order->{recipient});
$smtp->mail($sender, Bits => "8") or die "MAIL: " . $smtp->message;
$smtp->to($recipient) or die "RCPT: " . $smtp->message;
$smtp->data() or die "DATA: " . $smtp->message;
$smtp->rawdatasend(decode_base64($order->{stuffed})) or die "data: " . $smtp->message;
$smtp->dataend() or die "end of data: " . $smtp->message;
$smtp->quit;
