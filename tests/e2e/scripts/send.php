<?php
// SPDX-License-Identifier: MIT
// Sends one mail by PHPMailer, which makes the message itself. Standard input: the order as JSON; see matrix.py.
require "/usr/share/php/libphp-phpmailer/autoload.php";

$order = json_decode(stream_get_contents(STDIN), true);
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = $order["host"];
$mail->Port = $order["port"];
$mail->SMTPSecure = ["plain" => "", "STARTTLS" => "tls", "implicit TLS" => "ssl"][$order["security"]];
$mail->SMTPAutoTLS = $order["security"] === "STARTTLS";
$mail->SMTPOptions = ["ssl" => ["cafile" => $order["ca_file"]]];
$mail->SMTPAuth = $order["mechanism"] !== "";
$mail->AuthType = $order["mechanism"];
$mail->Username = $order["user"];
$mail->Password = $order["password"];
$mail->CharSet = "UTF-8";
$mail->Encoding = "8bit";
$mail->setFrom($order["sender"]);
$mail->addAddress($order["recipient"]);
$mail->Subject = $order["subject"];
$mail->Body = $order["text"];
if ($order["file"] !== "") {
    $mail->addStringAttachment(base64_decode($order["file"]), "large.bin", "quoted-printable");
}
$mail->send();
