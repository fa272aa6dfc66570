>> {"id":1,"jsonrpc":"2.0","method":"eth_getBlockReceipts","params":["0x99"]}
<< {"jsonrpc":"2.0","id":1,"result":null}
